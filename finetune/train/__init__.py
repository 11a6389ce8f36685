"""Training of LoRA and QLoRA adapters: config, data rows, trainer, checkpoints, adapter folder."""
