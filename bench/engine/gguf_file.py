"""A checkpoint as a bf16 GGUF file for llama.cpp, by the package's own export.

python -m bench.engine.gguf_file FOLDER/original FILE.gguf
"""

from __future__ import annotations

import sys
from pathlib import Path

from finetune.export.gguf_file import read_source, write_gguf

if __name__ == "__main__":
    write_gguf(read_source(sys.argv[1]), Path(sys.argv[2]), "bf16")
