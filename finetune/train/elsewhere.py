"""What other trainers (TRL, axolotl, LLaMA-Factory) call a key, and what it is here."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_OURS = {
    "base": "model_name_or_path base_model model model_id model_name",
    "revision": "model_revision base_model_revision",
    "data": "dataset datasets dataset_name dataset_dir train_file train_data dataset_path",
    "eval_data": "eval_dataset test_datasets validation_file val_data eval_file",
    "eval_share": "val_set_size val_size test_size validation_split",
    "output": "output_dir",
    "name": "run_name adapter_name",
    "r": "lora_r lora_rank rank peft_r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "target_modules": "lora_target lora_target_modules lora_target_linear",
    "rslora": "use_rslora peft_use_rslora",
    "method": "adapter finetuning_type load_in_4bit quantization_bit use_peft qlora",
    "max_length": "max_seq_length max_seq_len sequence_len cutoff_len context_length block_size",
    "too_long": "excess_length_strategy truncation_strategy truncation truncation_mode",
    "packing": "sample_packing pad_to_sequence_len padding_free neat_packing",
    "group_by_length": "length_grouping train_sampling_strategy",
    "epochs": "num_train_epochs num_epochs n_epochs",
    "batch_size": "per_device_train_batch_size micro_batch_size train_batch_size",
    "accumulation": "gradient_accumulation_steps grad_accum",
    "learning_rate": "lr learning_rate_multiplier",
    "warmup": "warmup_ratio warmup_steps",
    "schedule": "lr_scheduler_type lr_scheduler scheduler",
    "weight_decay": "wd",
    "max_grad_norm": "gradient_clipping clip_grad_norm",
    "optimizer": "optim",
    "seed": "data_seed random_state",
    "precision": "bf16 fp16 dtype torch_dtype bnb_4bit_compute_dtype pure_bf16 tf32",
    "attention": "attn_implementation flash_attention flash_attn use_flash_attention_2 "
    "xformers_attention sdp_attention",
    "gradient_checkpointing": "use_gradient_checkpointing",
    "eval_steps": "eval_strategy evaluation_strategy evals_per_epoch",
    "patience": "early_stopping_patience early_stopping",
    "save_steps": "save_strategy saves_per_epoch",
    "keep": "save_total_limit",
    "max_hours": "max_time",
    "wandb": "report_to wandb_mode wandb_project use_wandb",
    "tensorboard": "use_tensorboard",
}
_ALWAYS = {
    "completion_only_loss assistant_only_loss train_on_inputs train_on_prompt mask_history "
    "roles_to_train train_on_responses_only": "only what an assistant wrote is learnt, always; "
    'leave a message out with "weight": 0',
    "template chat_template chat_template_jinja": "the base's own chat template is used, as the "
    "server uses it",
    "load_best_model_at_end metric_for_best_model": "the best state becomes the adapter, always",
    "logging_steps logging_strategy": "every step is logged to metrics.jsonl",
    "trust_remote_code": "no code of a model's repository is run",
    "resume_from_checkpoint auto_resume_from_checkpoints": "--resume takes the newest whole one",
    "neftune_noise_alpha": "NEFTune's noise is scaled by a row's length, and rows here hold many "
    "conversations; dropout regularises",
    "use_dora peft_use_dora dora lora_use_dora": "the server adds LoRA matrices to each row of a "
    "batch, which DoRA's norms do not allow; use r and rslora",
    "modules_to_save lora_modules_to_save additional_target embedding_lora": "the head and the "
    "embeddings are not trained: the server shares them among its adapters",
    "lora_bias use_lora_bias": "biases are not trained: the server adds matrices only",
    "special_tokens tokens add_tokens new_special_tokens": "the vocabulary stays the base's, which "
    "the server shares among its adapters",
    "deepspeed fsdp fsdp_config": "several GPUs are the launcher's: --processes, or accelerate "
    "launch with a configuration",
    "push_to_hub hub_model_id": "nothing is uploaded; the adapter's folder is PEFT's own format",
    "stage rl": "supervised fine-tuning is what is done here",
}
_THEIRS = {name: ours for ours, names in _OURS.items() for name in names.split()}
_WHY = {name: why for names, why in _ALWAYS.items() for name in names.split()}


def unknown_key(key: str, known: Collection[str]) -> str:
    """One sentence about a key that is none of `known`: what it is here, why it is not here, or the
    nearest that is."""
    if key in _WHY:
        return f"there is no key {key!r}: {_WHY[key]}; leave it out."
    near = [_THEIRS[key]] if key in _THEIRS else difflib.get_close_matches(key, known, 1, 0.7)
    if not near and (theirs := difflib.get_close_matches(key, _THEIRS, 1, 0.85)):
        near = [_THEIRS[theirs[0]]]
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
    return f"there is no key {key!r}; {hint}"
