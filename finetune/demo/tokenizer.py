"""The demo checkpoint's tokenizer: byte-level BPE with EXAONE's special tokens and chat template.

Trained on the generated text only, so it is small (1,536 tokens), yet all 256 bytes are in it: any
text round-trips. Digits stand alone, so that numbers can be copied digit by digit. Runs of JSON
keys that recur in every plan are tokens of their own. None of them reaches past an opening
bracket: llguidance's masks miss tokens that do, and would push the model off its own spelling.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from finetune.demo.corpus import Sample
from finetune.demo.plans import LETTERS
from provider.engine.exaone import CHAT_TEMPLATE

VOCABULARY = 1536
SPECIAL_TOKENS = (
    "[PAD]",
    "[BOS]",
    "[EOS]",
    "[UNK]",
    "[|system|]",
    "[|user|]",
    "[|assistant|]",
    "[|endofturn|]",
)
KEY_RUNS = (
    '{"topology":',
    '{"plan_id":"',
    '","spaces":',
    '{"id":"',
    '","kind":"',
    '","windows":',
    ',"name":"',
    '","area_m2":',
    ',"doors":',
    ',"context":',
    '{"use":"',
    '","residents":',
    ',"criteria":',
    '{"criterion":',
    ',"rule":"',
    '","value":',
    ',"kind":"',
    '","rooms":',
    ',"required_m2":',
    ',"verdict":"',
    '","doors":',
    ',"compliance":',
    '{"items":',
    '","checks":',
    '{"room":"',
    '","actual":',
    ',"ok":',
    ',"passed":',
    ',"reason":"',
    ',"failed_count":',
    ',"compliant":',
    ',"design_evaluation":',
    '{"dark_rooms":',
    ',"daylight":"',
    '","living_doors":',
    ',"circulation":"',
    '","entrance_doors":',
    ',"privacy":"',
    '","small_rooms":',
    ',"adequacy":"',
    '","overall":"',
    '","strengths":',
    ',"recommendations":',
    '","name":"',
    '","action":"',
    ',"summary":',
    '{"room_count":',
    ',"bedroom_count":',
    ',"bathroom_count":',
    ',"headline":"',
)


def train_tokenizer(samples: Iterable[Sample]) -> PreTrainedTokenizerFast:
    """Train on the samples' text; the result is EXAONE's in every respect but the vocabulary."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(KEY_RUNS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(samples), trainer)
    core.add_tokens([AddedToken(run, normalized=False, special=False) for run in KEY_RUNS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="[BOS]",
        eos_token="[|endofturn|]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )


def _texts(samples: Iterable[Sample]) -> Iterable[str]:
    """The samples' texts, cut at the key runs, which must not shape the merges."""
    for sample in samples:
        text = "\n".join([*(m["content"] for m in sample.messages), sample.answer])
        for run in KEY_RUNS:
            text = text.replace(run, "\n")
        yield from text.split("\n")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load as it was saved. Never through AutoTokenizer, which may rebuild it as GPT-2's."""
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def row_marks(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the letters that name the spaces of a plan, each a token of its own."""
    return [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in LETTERS]
