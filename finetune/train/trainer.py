"""TRL's SFTTrainer with what it lacks: rows without padding, a loss on the learnt tokens only, a
data order that a resume finds again, an evaluation weighted by tokens, and sealed checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput
from trl.trainer.sft_trainer import SFTTrainer

from finetune.train import checkpoints
from finetune.train.disk import DISK_ERRORS, no_room
from finetune.train.head_loss import HeadOutput, add_head_loss, fits
from finetune.train.sampler import EpochSampler
from finetune.train.stops import agreed


class _Epochs(TrainerCallback):
    """Tells the sampler which epoch begins: accelerate reaches it in some of its wrappers only."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._sampler.epoch = int(state.epoch or 0)


class AdapterTrainer(SFTTrainer):
    """`order_seed` decides the order of the rows, `group` gives each step rows of similar length,
    `keep` is how many checkpoints stay. Datasets and batches are those of `finetune.train.rows`.

    `unsaved` is the reason why the last checkpoint could not be written, None if it was; `say` is
    told so at once.
    """

    def __init__(
        self,
        *,
        order_seed: int,
        group: int | None,
        keep: int,
        row_lengths: list[int],
        say: Callable[[str], None] = print,
        **options: Any,
    ) -> None:
        self._order = EpochSampler(row_lengths, order_seed, group)
        self._keep = keep
        self.tokens_seen = 0
        self.unsaved: str | None = None
        self._say = say
        super().__init__(**options)
        self.add_callback(_Epochs(self._order))
        base = self.adapted.get_base_model()
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        self._own_loss = fits(base) and not sharded
        if self._own_loss:
            add_head_loss(base)

    @property
    def adapted(self) -> Any:
        """The model with its adapter, not wrapped by what runs several processes."""
        return self.model

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._order

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        if model.training:
            self.tokens_seen += inputs["input_ids"].numel() * self.accelerator.num_processes
        if not self._own_loss:
            return self._sharded_loss(model, inputs, num_items_in_batch)
        output = self._forward(model, inputs)
        count = output.count if num_items_in_batch is None else num_items_in_batch
        loss = output.loss / torch.as_tensor(count, device=output.loss.device).clamp(min=1)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages what is summed here
        self._metrics["train" if model.training else "eval"]["mean_token_accuracy"].append(
            (output.correct / output.count.clamp(min=1)).item()
        )
        return loss

    def _sharded_loss(self, model: Any, inputs: dict[str, Any], count: Any) -> Any:
        """TRL's own way, which gathers a head that FSDP or DeepSpeed has spread."""
        labels = {name: value for name, value in inputs.items() if name != "labels"}
        return super().compute_loss(  # type: ignore[no-untyped-call]
            model, labels, False, count
        )

    def _forward(self, model: Any, inputs: dict[str, Any]) -> HeadOutput:
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        output: HeadOutput = model(**asked, head_loss=True)
        return output

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Loss and accuracy over all learnt tokens: each token counts the same, whatever batch it
        is in."""
        model = self._wrap_model(self.adapted, training=False)
        model.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        shown = self.is_world_process_zero() and sys.stderr.isatty()
        bar = tqdm(dataloader, description, leave=False, disable=not shown)
        with torch.no_grad():
            for inputs in bar:
                sums += self._sums(model, self._prepare_inputs(inputs)).double().cpu()
        total = self.accelerator.reduce(sums.to(self.args.device, torch.float32)).double().tolist()
        loss, correct, count = total
        metrics = {
            f"{metric_key_prefix}_loss": loss / max(count, 1),
            f"{metric_key_prefix}_mean_token_accuracy": correct / max(count, 1),
        }
        nothing: Any = None
        return EvalLoopOutput(
            predictions=nothing,
            label_ids=None,
            metrics=metrics,
            num_samples=self.num_examples(dataloader),
        )

    def _sums(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        with self.compute_loss_context_manager():
            if self._own_loss:
                output = self._forward(model, inputs)
                return torch.stack([output.loss, output.correct, output.count]).float()
            asked = {name: value for name, value in inputs.items() if name != "labels"}
            fused = model(**asked, fused_lm_head=True)
            return torch.stack(
                [-fused.log_probs.sum(), fused.is_top1.sum(), fused.label_mask.sum()]
            ).float()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A sealed checkpoint, older ones removed only afterwards. A full disk costs this one
        checkpoint: it is cleared away, `unsaved` says why, and training goes on."""
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if folder.exists() and self.args.should_save:
            checkpoints.discard(folder)
        self.accelerator.wait_for_everyone()
        failed = _refused(folder, lambda: Trainer._save_checkpoint(self, model, trial))
        lost = agreed(failed is not None, self.args)  # by any of the processes
        if self.args.should_save and not lost:
            failed = _refused(folder, lambda: checkpoints.seal(folder))
            lost = failed is not None
        if self.args.should_save:
            if lost:
                checkpoints.discard(folder)
            else:
                checkpoints.rotate(folder.parent, self._keep)
        self.accelerator.wait_for_everyone()  # a launcher ends the others once one of them has left
        why = failed or "in another process"
        self.unsaved = f"{folder.name} could not be written ({why})" if lost else None
        if self.unsaved:
            self.tell(f"{self.unsaved}; training goes on without it.")

    def tell(self, line: str) -> None:
        """Above the progress bar, by the first process."""
        if self.is_world_process_zero():
            with tqdm.external_write_mode():
                self._say(line)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The adapter alone: the base has not changed, and its tokenizer is the base's."""
        if self.args.should_save:
            self.adapted.save_pretrained(
                output_dir or self.args.output_dir,
                state_dict=state_dict,
                save_embedding_layers=False,
            )


def _refused(folder: Path, write: Callable[[], None]) -> Exception | None:
    """What the disk says to `write`, None if it was done; other errors are raised."""
    try:
        write()
    except DISK_ERRORS as error:
        if not no_room(folder.parent, error):
            raise
        return error
    return None
