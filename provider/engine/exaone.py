"""EXAONE-3.x as a native transformers architecture: no `trust_remote_code`.

EXAONE 3.0, 3.5 and Deep are Llama's arithmetic under other names. Here the parameters and config
keys keep EXAONE's own names, so that original checkpoints and LoRA adapters trained on them load
as they are and are saved as they were, while every forward pass is transformers' Llama code.

| EXAONE                                       | Llama                                         |
|----------------------------------------------|-----------------------------------------------|
| `transformer.wte`, `h`, `ln_f`               | `model.embed_tokens`, `layers`, `norm`        |
| `ln_1`, `ln_2`                               | `input_layernorm`, `post_attention_layernorm` |
| `attn.attention.{q,k,v}_proj`, `out_proj`    | `self_attn.{q,k,v}_proj`, `o_proj`            |
| `mlp.c_fc_0` (gate), `c_fc_1` (up), `c_proj` | `mlp.gate_proj`, `up_proj`, `down_proj`       |

The modules are Llama's under EXAONE's names; Llama's names stay behind as read-only aliases, which
is what its `forward` reads. Sources: the modelling file that LG published
with EXAONE-3.x, vLLM's `exaone.py` (gate is `c_fc_0`), llama.cpp's converter (half-split rope,
llama3 scaling, no permutation).
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto import tokenization_auto
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaMLP,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '[|system|][|endofturn|]\\n' }}"
    "{% endif %}"
    "{{ '[|' + message['role'] + '|]' + message['content'] }}"
    "{% if message['role'] == 'user' %}{{ '\\n' }}"
    "{% else %}{{ '[|endofturn|]\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
)
"""EXAONE-3.5's own chat template, byte for byte. It knows the roles system, user and assistant;
it would render any other role as text, so `provider.engine.chat` refuses those first."""

LLAMA_TO_EXAONE: dict[str, str] = {
    "model": "transformer",
    "embed_tokens": "wte",
    "layers": "h",
    "norm": "ln_f",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn": "attn.attention",
    "o_proj": "out_proj",
    "gate_proj": "c_fc_0",
    "up_proj": "c_fc_1",
    "down_proj": "c_proj",
}
"""Module names of the Llama layout and what EXAONE calls them, one path component each."""

EXAONE_TO_LLAMA_CONFIG: dict[str, str] = {
    "num_layers": "num_hidden_layers",
    "layer_norm_epsilon": "rms_norm_eps",
    "activation_function": "hidden_act",
}
"""Config keys that differ; rope is `rope_theta` + `rope_scaling` in EXAONE's files."""


class ExaoneConfig(LlamaConfig):
    """EXAONE-3.x's `config.json`, read and written in its own keys.

    Llama's names work as attributes too (`num_hidden_layers`, `rms_norm_eps`, `rope_parameters`).
    """

    model_type = "exaone"
    attribute_map: ClassVar[dict[str, str]] = dict(EXAONE_TO_LLAMA_CONFIG)
    base_model_tp_plan: ClassVar[dict[str, Any]] = {
        "h.*.attn.attention.q_proj": "colwise",
        "h.*.attn.attention.k_proj": "colwise",
        "h.*.attn.attention.v_proj": "colwise",
        "h.*.attn.attention.out_proj": "rowwise",
        "h.*.mlp.c_fc_0": "colwise",
        "h.*.mlp.c_fc_1": "colwise",
        "h.*.mlp.c_proj": "rowwise",
    }
    base_model_pp_plan: ClassVar[Any] = None

    vocab_size: int = 102400
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 361

    def to_dict(self) -> dict[str, Any]:
        """The config in EXAONE's keys, as its other readers (vLLM, llama.cpp) expect it."""
        written: dict[str, Any] = super().to_dict()
        for theirs, ours in EXAONE_TO_LLAMA_CONFIG.items():
            written[theirs] = written.pop(ours)
        written.pop("pretraining_tp", None)
        for bias in ("attention_bias", "mlp_bias"):
            if not written[bias]:
                del written[bias]
        rope = dict(written.pop("rope_parameters", None) or {})
        written["rope_theta"] = rope.pop("rope_theta", self.default_theta)
        written["rope_scaling"] = None if rope in ({}, {"rope_type": "default"}) else rope
        return written


def _alias(path: str) -> Any:
    """A read-only second name for a child module, so that Llama's `forward` finds it."""
    names = path.split(".")

    def read(module: nn.Module) -> nn.Module | None:
        found: nn.Module | None = module
        for name in names:
            found = found._modules[name] if found is not None else None
        return found

    return property(read)


class ExaoneAttention(LlamaAttention):
    o_proj = _alias("out_proj")

    def __init__(self, config: ExaoneConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.out_proj = self._modules.pop("o_proj")


class ExaoneMLP(LlamaMLP):
    gate_proj = _alias("c_fc_0")
    up_proj = _alias("c_fc_1")
    down_proj = _alias("c_proj")

    def __init__(self, config: ExaoneConfig) -> None:
        super().__init__(config)  # type: ignore[no-untyped-call]
        self.c_fc_0 = self._modules.pop("gate_proj")
        self.c_fc_1 = self._modules.pop("up_proj")
        self.c_proj = self._modules.pop("down_proj")


class ExaoneAttentionBlock(nn.Module):
    """Only a name: the original keeps its attention one level deeper (`attn.attention`)."""

    def __init__(self, config: ExaoneConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention = ExaoneAttention(config, layer_idx)


class ExaoneDecoderLayer(LlamaDecoderLayer):
    input_layernorm = _alias("ln_1")
    post_attention_layernorm = _alias("ln_2")
    self_attn = _alias("attn.attention")

    def __init__(self, config: ExaoneConfig, layer_idx: int) -> None:
        super(LlamaDecoderLayer, self).__init__()
        self.hidden_size = config.hidden_size
        self.ln_1 = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attn = ExaoneAttentionBlock(config, layer_idx)
        self.ln_2 = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = ExaoneMLP(config)


class ExaonePreTrainedModel(LlamaPreTrainedModel):
    config: ExaoneConfig
    config_class = ExaoneConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "wte"
    _no_split_modules = ["ExaoneDecoderLayer"]  # noqa: RUF012
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": ExaoneDecoderLayer,
        "attentions": ExaoneAttention,
    }


class ExaoneModel(ExaonePreTrainedModel, LlamaModel):
    """The decoder: token ids [batch, length] to hidden states [batch, length, hidden]."""

    embed_tokens = _alias("wte")
    layers = _alias("h")
    norm = _alias("ln_f")

    def __init__(self, config: ExaoneConfig) -> None:
        super(LlamaModel, self).__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.h = nn.ModuleList(
            [ExaoneDecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        )
        self.ln_f = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]


class ExaoneForCausalLM(ExaonePreTrainedModel, LlamaForCausalLM):
    """EXAONE-3.x with its language-model head; logits [batch, length, vocabulary]."""

    model = _alias("transformer")
    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: ExaoneConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.transformer = ExaoneModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


def register() -> None:
    """Make `AutoConfig`, `AutoModel` and `AutoModelForCausalLM` know `model_type="exaone"`.

    Idempotent. A class registered here wins over the code that a repository ships, so nothing is
    asked about `trust_remote_code`. The tokenizer entry keeps `AutoTokenizer` from rebuilding
    EXAONE's tokenizer as GPT-2's, which would silently drop its digit splitting.
    """
    AutoConfig.register("exaone", ExaoneConfig, exist_ok=True)
    AutoModel.register(ExaoneConfig, ExaoneModel, exist_ok=True)
    AutoModelForCausalLM.register(ExaoneConfig, ExaoneForCausalLM, exist_ok=True)
    tokenization_auto.TOKENIZER_MAPPING_NAMES["exaone"] = "TokenizersBackend"
