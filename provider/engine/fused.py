"""The forward pass of Llama's arithmetic, written for packed steps.

EXAONE-3.x and Llama models run here instead of through transformers' modules: q, k and v are one
product, gate and up another, the weights lie as the device likes them (`provider.engine.linear`),
and there is no module call per operation. Every operation is the model's own in the model's own
order, so the logits differ from its forward only as two matrix products of other shapes do.

The model's own weights are given up so that nothing is held twice; they come back when somebody
else calls the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaModel

from provider.engine.adapters import Adapter
from provider.engine.attention import Attention, AttentionPlan
from provider.engine.constraint import Blocks
from provider.engine.head import Head
from provider.engine.linear import Linear
from provider.engine.lora_bank import Adapting, LoraBank, Masked, Ranges, owners
from provider.engine.native.kernels import Kernels
from provider.engine.products import FusedLinear, multiplies
from provider.engine.runner import Step
from provider.engine.transfer import upload


class Layer:
    """One decoder layer: fused products and the two norms."""

    def __init__(self, layer: Any, index: int, kernels: Kernels | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.index = index
        self.before, self.between = (
            Norm(layer.input_layernorm),
            Norm(layer.post_attention_layernorm),
        )
        self.qkv = FusedLinear([attention.q_proj, attention.k_proj, attention.v_proj], kernels)
        self.out = FusedLinear([attention.o_proj], kernels)
        self.gate_up = FusedLinear([mlp.gate_proj, mlp.up_proj], kernels)
        self.down = FusedLinear([mlp.down_proj], kernels)
        self.head_dim: int = attention.head_dim
        self.rotated = attention.q_proj.out_features + attention.k_proj.out_features
        self.heads = attention.q_proj.out_features // self.head_dim
        self.scale: float = attention.scaling

    @property
    def products(self) -> list[FusedLinear]:
        return [self.qkv, self.out, self.gate_up, self.down]

    def attend(
        self, x: Tensor, cos: Tensor, sin: Tensor, plan: Attention, lora: Adapting | None
    ) -> Tensor:
        """What the attention heads give, `[T, heads * head_dim]`; stores keys and values."""
        count = x.shape[0]
        qkv = self.qkv(self.before(x), lora)
        turning = qkv[:, : self.rotated].view(count, -1, self.head_dim)
        turned = turning * cos + turning.roll(self.head_dim // 2, -1) * sin
        values = qkv[:, self.rotated :].view(count, -1, self.head_dim)
        plan.write(self.index, turned[:, self.heads :], values)
        heads = plan.attend(self.index, turned[:, : self.heads], self.scale)
        return heads.reshape(count, -1)

    def feed(self, x: Tensor, lora: Adapting | None) -> Tensor:
        gate, up = self.gate_up(self.between(x), lora).chunk(2, -1)
        return self.down(silu(gate) * up, lora)


class Norm:
    """Llama's RMS norm: statistics in float32, the weight applied in the model's type."""

    def __init__(self, module: Any) -> None:
        self.weight: Tensor = module.weight.data
        self.epsilon: float = module.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)


class FusedRunner:
    """Runs steps of a model that `fits`."""

    def __init__(
        self, model: PreTrainedModel, kernels: Kernels | None = None, banked: bool | None = None
    ) -> None:
        inner: Any = model.base_model
        self._kernels = kernels
        self.weight_bytes = sum(p.nbytes for p in model.parameters())
        self._rotary: Any = inner.rotary_emb
        self.rotary = str(getattr(self._rotary, "rope_type", "default"))
        self._embedding: nn.Embedding = inner.embed_tokens
        self._norm = Norm(inner.norm)
        self._layers = [Layer(layer, index, kernels) for index, layer in enumerate(inner.layers)]
        head = Linear(model.get_output_embeddings().weight.data, kernels=kernels)
        self._head = Head(head)
        self.narrows = self._head.narrows
        if head.packed and model.config.tie_word_embeddings:
            self.weight_bytes += self._embedding.weight.nbytes
        self.device: torch.device = model.device
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self._given_up = True
        narrow = [part for product in self._products() for part in product.quantised]
        linears = [p.module.weight for product in self._products() for p in product.parts]
        self.weight_bytes += sum(part.nbytes for part in narrow)
        self.weight_bytes -= sum(weight.nbytes for weight in linears) if narrow else 0
        self.widened = max((part.widened for part in narrow), default=0)
        """Bytes that the largest quantised weight takes while it multiplies."""
        for product in self._products():
            product.give_up()
        model.register_forward_pre_hook(self._bring_back)
        if banked is None:
            banked = self.device.type != "cpu"
        products = self._products()
        self.bank = LoraBank(products, self.device, model.dtype) if banked else None
        self.adapters_on = torch.device("cpu") if banked else self.device

    def attach(self, adapter: Adapter) -> None:
        if self.bank is not None:
            self.bank.add(adapter)

    def forget(self, adapter: int) -> None:
        """Nothing is kept of it."""

    @torch.inference_mode()
    def forward(self, step: Step) -> Tensor:
        return self.packed(step, AttentionPlan(step.segments, self.device, kernels=self._kernels))

    @torch.inference_mode()
    def packed(self, step: Step, plan: Attention) -> Tensor:
        """`forward` with an attention of the caller's."""
        ids, positions = upload([step.tokens, step.positions], self.device)
        wanted = upload(step.wanted, self.device)
        lora = self.adapting(step)
        return self.run(ids, positions, wanted, plan, lora, step.outputs).float()

    def adapting(self, step: Step) -> Adapting | None:
        """What a step's adapters add; None if it has none."""
        if not step.adapters or self.bank is None:
            return Ranges(step.adapters) if step.adapters else None
        numbers = owners(step.adapters, len(step.tokens), self.bank)
        return Masked(self.bank.tables, upload(numbers, self.device))

    def run(
        self,
        ids: Tensor,
        positions: Tensor,
        wanted: Tensor,
        plan: Attention,
        lora: Adapting | None,
        outputs: Sequence[Blocks | None] = (),
    ) -> Tensor:
        """Logits `[wanted, vocabulary]` in the model's type of what lies on the device; with
        `outputs` (see `Step`) those in float32."""
        x = self._embedding(ids)
        cos, sin = self._angles(x, positions)
        for layer in self._layers[:-1]:
            x = x + layer.out(layer.attend(x, cos, sin, plan, lora), lora)
            x = x + layer.feed(x, lora)
        layer = self._layers[-1]
        heads = layer.attend(x, cos, sin, plan, lora)
        if not wanted.shape[0]:  # a part of a prompt; products of no rows crash in some libraries
            none: Tensor = x.new_empty((0, self.vocabulary))
            return none
        narrow = wanted.shape[0] < ids.shape[0] and lora is None
        if narrow:
            x, heads = x[wanted], heads[wanted]
        x = x + layer.out(heads, lora)
        x = x + layer.feed(x, lora)
        x = self._norm(x if narrow else x[wanted])
        return self._head.logits(x, outputs) if outputs else self._head(x)

    def _angles(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines `[T, 1, head_dim]`: the first half of a head is turned by
        minus its second half, which `roll` brings to its place."""
        cos, sin = self._rotary(x.unsqueeze(0), position_ids=positions.unsqueeze(0))
        half = sin.shape[-1] // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)
        return cos[0].unsqueeze(1), sin[0].unsqueeze(1)

    def _products(self) -> list[FusedLinear]:
        return [product for layer in self._layers for product in layer.products]

    def _bring_back(self, *_: Any) -> None:
        """Somebody calls the model itself: its modules get their weights again."""
        if self._given_up:
            self._given_up = False
            for product in self._products():
                product.bring_back()


def fits(model: PreTrainedModel) -> bool:
    """Whether the model is Llama's arithmetic with weights that `FusedLinear` multiplies."""
    if not isinstance(model, LlamaForCausalLM) or not isinstance(model.base_model, LlamaModel):
        return False
    config: Any = model.config
    linears = [m for layer in model.base_model.layers for m in _linears(layer)]
    return config.hidden_act == "silu" and multiplies(linears)


def _linears(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        mlp.gate_proj,
        mlp.up_proj,
        mlp.down_proj,
    ]
