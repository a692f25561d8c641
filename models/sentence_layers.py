"""The modules of sentence-transformers in PyTorch: poolings, dense layers, norms, and an encoder that ends in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS = "token_embeddings"
SENTENCE = "sentence_embedding"
SMALLEST_WEIGHT = 1e-9
"""A sum of weights is at least this before it divides."""
LOWEST_FEATURE = -1e30
"""Replaces padding before a maximum; it is less than any feature, and finite."""


def select_token(tokens: Tensor, is_selected: Tensor) -> Tensor:
    """Return the token that is selected in each row, ``(batch, features)``; zeros where none is."""
    return tokens.masked_fill(~is_selected.unsqueeze(-1), 0.0).sum(1)


def pool_first(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the first token that counts."""
    is_first = (mask.cumsum(1) == 1) & (mask == 1)  # (batch, tokens)
    return select_token(tokens, is_first)


def pool_last(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the last token that counts."""
    is_last = (mask.cumsum(1) == mask.sum(1, keepdim=True)) & (mask == 1)  # (batch, tokens)
    return select_token(tokens, is_last)


def pool_max(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value of each feature."""
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, LOWEST_FEATURE).amax(1)


def sum_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Add up the tokens that count; padding may hold any values, NaN included."""
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, 0.0).sum(1)


def count_tokens(mask: Tensor) -> Tensor:
    """Return the number of tokens that count, float32 ``(batch, 1)``."""
    return mask.sum(1, keepdim=True).float().clamp(min=SMALLEST_WEIGHT)


def pool_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the tokens."""
    return sum_tokens(tokens, mask) / count_tokens(mask)


def pool_mean_of_root(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of the tokens divided by the square root of their number."""
    return sum_tokens(tokens, mask) / count_tokens(mask).sqrt()


def pool_weighted_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the tokens, each weighted by its position, which starts at 1."""
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    weights = (mask * positions).float()  # (batch, tokens)
    weighted = sum_tokens(tokens * weights.unsqueeze(-1), mask)
    return weighted / weights.sum(1, keepdim=True).clamp(min=SMALLEST_WEIGHT)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": pool_first,
    "max": pool_max,
    "mean": pool_mean,
    "mean_sqrt_len_tokens": pool_mean_of_root,
    "weightedmean": pool_weighted_mean,
    "lasttoken": pool_last,
}
"""Poolings by the names of sentence-transformers; each takes ``(batch, tokens, features)`` and ``(batch, tokens)``."""


class SentenceModule(nn.Module):
    """A module that reads one tensor of the pipeline, and writes one."""

    def __init__(self, input_name: str = SENTENCE, output_name: str | None = None) -> None:
        super().__init__()
        self.input_name = input_name
        self.output_name = output_name or input_name


class Pooling(SentenceModule):
    """Pooling of token embeddings to one vector per text, in one way, or in several that are concatenated.

    The first `excluded_tokens` of a text do not count: those of a prompt that the pooling leaves out.
    """

    def __init__(self, modes: tuple[str, ...], include_prompt: bool = True) -> None:
        super().__init__(TOKENS, SENTENCE)
        self.modes = modes
        self.include_prompt = include_prompt
        self.excluded_tokens = 0

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Map ``(batch, tokens, features)`` and ``(batch, tokens)`` to ``(batch, modes * features)``."""
        if self.excluded_tokens:
            positions = torch.arange(mask.shape[1], device=mask.device)
            mask = mask * (positions >= self.excluded_tokens)
        parts = [POOLINGS[mode](tokens, mask) for mode in self.modes]
        return torch.cat(parts, dim=1)


class Dense(SentenceModule):
    """A linear layer with an activation, and optionally a residual connection."""

    def __init__(
        self, linear: nn.Linear, activation: nn.Module, *, residual: nn.Module | None, names: tuple[str, str | None]
    ) -> None:
        super().__init__(*names)
        self.linear = linear
        self.activation_function = activation
        self.residual = residual

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map ``(…, features in)`` to ``(…, features out)``."""
        out: Tensor = self.activation_function(self.linear(x))
        if self.residual is None:
            return out
        projected: Tensor = self.residual(x)
        return out + projected


class LayerNorm(SentenceModule):
    """Layer normalisation of the sentence embedding."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise ``(batch, features)``."""
        normalised: Tensor = self.norm(x)
        return normalised


class Normalize(SentenceModule):
    """Division of each vector by its length (L2 norm)."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise ``(…, features)``."""
        return functional.normalize(x, dim=-1)


class Dropout(SentenceModule):
    """Dropout, which does nothing in evaluation mode."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the input."""
        return x


class SentenceEncoder(nn.Module):
    """A transformer and the modules behind it as one module, whose output is the sentence embedding.

    The transformer's own modules are this module's children, so that layers keep the names that they have in the
    transformer; the modules behind it are ``sentence.pooling``, ``sentence.dense`` and so on.

    Parameters
    ----------
    transformer : PreTrainedModel
    modules : dict of SentenceModule
        By name, in order.
    dimension : int or None
        Number of features that are kept of the embedding; None keeps all.
    """

    main_input_name = "input_ids"

    def __init__(self, transformer: Any, modules: dict[str, SentenceModule], dimension: int | None) -> None:
        super().__init__()
        self.config = transformer.config
        self.transformers = (transformer.eval(),)  # in a tuple, so that it is no child itself
        has_own_state = any(True for _ in transformer.parameters(recurse=False)) or any(
            True for _ in transformer.buffers(recurse=False)
        )
        children = {"transformer": transformer} if has_own_state else dict(transformer.named_children())
        for name, child in children.items():
            self.add_module(name, child)
        self.sentence = nn.ModuleDict(modules)
        self.dimension = dimension

    @property
    def poolings(self) -> list[Pooling]:
        """The modules that pool tokens."""
        return [module for module in self.sentence.values() if isinstance(module, Pooling)]

    def set_attn_implementation(self, name: str) -> None:
        """Choose how the transformer computes its attention."""
        self.transformers[0].set_attn_implementation(name)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map token ids and mask ``(batch, tokens)`` to embeddings ``(batch, features)``."""
        output = self.transformers[0].forward(input_ids=input_ids, attention_mask=attention_mask)
        values = {TOKENS: output.last_hidden_state}
        for module in self.sentence.values():
            assert isinstance(module, SentenceModule)
            values[module.output_name] = module(values[module.input_name], attention_mask)
        embedding: Tensor = values[SENTENCE]
        return embedding if self.dimension is None else embedding[:, : self.dimension]
