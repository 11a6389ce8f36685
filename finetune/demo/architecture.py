"""The demo checkpoint's shape, and its start: a copying circuit instead of pure noise.

A small model that starts from noise spends most of its budget on a plateau, until it discovers how
to copy: heads of one layer look at the previous tokens, a head of the next finds the place where
the same tokens stood before and copies what came after them (Olsson et al. 2022, "In-context
Learning and Induction Heads"). Here the first two layers start with that circuit in place, for
contexts of two tokens, and training goes on from there. Every parameter stays trainable.

The residual stream is divided for the start: channel 0 holds a constant (heads that look at
positions only need one, since the architecture has no biases), channel 1 marks the letters that
name the spaces, the next 62 hold the token, and then 32 each hold a sketch of the token one, two
and three places back and of the last letter: the row of the plan that a token belongs to.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM

HIDDEN = 192
HEAD = 64
NOISE = 0.06
ROPE_THETA = 1_000_000.0
LAST, BEFORE = 2.0, 1.6
STRONG, LENGTH = 0.4, 0.58
CONSTANT, MARK = 0, 1
TOKEN = slice(2, 64)
SKETCH = 32
BACK = tuple(slice(64 + SKETCH * place, 64 + SKETCH * (place + 1)) for place in range(3))
ROW = slice(160, 192)
MATCH_FROM = 16
"""First rotary frequency whose angle stays small over a whole prompt: where content is matched."""


def demo_config(vocabulary: int, eos_token_id: int) -> ExaoneConfig:
    """2.5 million parameters in EXAONE-3.5's format; rope as EXAONE-3.5's, without its scaling."""
    return ExaoneConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=HEAD,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        hidden_act="silu",
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=eos_token_id,
        use_cache=True,
    )


def build_model(config: ExaoneConfig, seed: int, marks: Sequence[int]) -> ExaoneForCausalLM:
    """A model with the circuit in place; the same seed gives the same weights.

    `marks` are the token ids of the letters that name the spaces of a plan.
    """
    torch.manual_seed(seed)
    model = ExaoneForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                quiet = name.endswith(("out_proj.weight", "c_proj.weight"))
                parameter.normal_(0, NOISE * (0.05 if quiet else 1.0))
        _divide_residual(model.transformer.wte.weight, marks)
        sketch = torch.linalg.qr(torch.randn(TOKEN.stop - TOKEN.start, SKETCH))[0].T
        _look_back(_attention(model, 0), sketch)
        _match_and_copy(_attention(model, 1), sketch)
    return model


def _divide_residual(embedding: Tensor, marks: Sequence[int]) -> None:
    """Equal row norms, so that the constant is the same for every token behind the norm layer."""
    length = torch.full((len(embedding), 1), LENGTH**2)
    length[list(marks)] -= STRONG**2
    embedding[:, [CONSTANT, MARK]] = 0
    embedding[:, TOKEN.stop :] = 0
    embedding.copy_(nn.functional.normalize(embedding) * length.sqrt())
    embedding[:, CONSTANT] = STRONG
    embedding[list(marks), MARK] = STRONG


def _attention(model: ExaoneForCausalLM, layer: int) -> nn.Module:
    return model.get_submodule(f"transformer.h.{layer}.attn.attention")


def _look_back(attention: nn.Module, sketch: Tensor) -> None:
    """Heads 0, 1, 2 note what stands one, two and three tokens back, head 3 the last letter.

    After rotation a constant query and key score by the sum of cos(distance * angle + phase): a
    phase of minus n angles moves the peak from distance 0 to distance n. Slower angles without a
    phase prefer what is near over a whole row of the plan.
    """
    half, sharp, near, still = HEAD // 2, 6, [6, 8, 10, 12], HEAD // 2 - 1
    angles = torch.tensor([ROPE_THETA ** (-index / half) for index in range(sharp)])
    for weight in (weight for head in range(4) for weight in _head(attention, head)):
        weight.zero_()
    for head, channels in enumerate((*BACK, ROW)):
        q, k, v, out = _head(attention, head)
        v[:SKETCH, TOKEN] = sketch
        out[channels, :SKETCH] = torch.eye(SKETCH) * 0.1
        k[:sharp, CONSTANT] = 1.8
        if channels is not ROW:
            q[:sharp, CONSTANT] = torch.cos((head + 1) * angles)
            q[half : half + sharp, CONSTANT] = -torch.sin((head + 1) * angles)
        else:
            q[near, CONSTANT] = k[near, CONSTANT] = 1.0
            q[still, CONSTANT], k[still, MARK] = 1.5, 2.5


def _match_and_copy(attention: nn.Module, sketch: Tensor) -> None:
    """Head 0 finds where the last two tokens stood before, and copies the token that followed."""
    q, k, v, out = _head(attention, 0)
    half = HEAD // 2
    rows = torch.cat([torch.arange(MATCH_FROM, half), torch.arange(MATCH_FROM + half, HEAD)])
    for weight in (q, k, v, out):
        weight.zero_()
    last, before = (torch.linalg.qr(torch.randn(SKETCH, len(rows)))[0].T for _ in range(2))
    q[rows, TOKEN] = last @ sketch * LAST
    k[rows, BACK[0]] = last * LAST
    q[rows, BACK[0]] = before * BEFORE
    k[rows, BACK[1]] = before * BEFORE
    v[:, TOKEN] = torch.linalg.qr(torch.randn(HEAD, TOKEN.stop - TOKEN.start))[0]
    out[TOKEN, :] = v[:, TOKEN].T * 0.4


def _head(attention: nn.Module, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views on the weights of one query head and of the key-value head that it shares."""
    weights = dict(attention.named_parameters())
    own = slice(head * HEAD, (head + 1) * HEAD)
    shared = slice(head // 2 * HEAD, (head // 2 + 1) * HEAD)
    q, k = weights["q_proj.weight"][own], weights["k_proj.weight"][shared]
    return q, k, weights["v_proj.weight"][shared], weights["out_proj.weight"][:, own]
