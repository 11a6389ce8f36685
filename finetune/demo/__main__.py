"""Run the demo models' command line."""

from finetune.demo.cli import demo

demo(prog_name="python -m finetune.demo")
