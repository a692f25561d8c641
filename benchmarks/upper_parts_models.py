"""Networks whose upper parts are measured: small members of many families, and what makes them random in training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Randomness = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Network:
    """A network, and which of its arguments are the rates of dropout and of stochastic depth.

    `arguments` make it small. A model of transformers is one of ``coverage_architectures``, or "minilm", the trained
    all-MiniLM-L6-v2.
    """

    source: str
    model: str
    randomness: Randomness = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


DROPOUT, DEPTH = "dropout", "stochastic depth"
TIMM_DEPTH: Randomness = {DEPTH: ("drop_path_rate",)}
TIMM_HEAD: Randomness = {DROPOUT: ("drop_rate",)}
TIMM: Randomness = {**TIMM_HEAD, **TIMM_DEPTH}
TIMM_MLP: Randomness = {DROPOUT: ("drop_rate", "proj_drop_rate"), **TIMM_DEPTH}
TIMM_ATTENTION: Randomness = {DROPOUT: ("drop_rate", "proj_drop_rate", "attn_drop_rate"), **TIMM_DEPTH}
TORCHVISION: Randomness = {DROPOUT: ("dropout",)}
TORCHVISION_DEPTH: Randomness = {DEPTH: ("stochastic_depth_prob",)}
BERT: Randomness = {DROPOUT: ("hidden_dropout_prob", "attention_probs_dropout_prob")}
DISTILBERT: Randomness = {DROPOUT: ("dropout", "attention_dropout")}
MODERNBERT: Randomness = {DROPOUT: ("embedding_dropout", "mlp_dropout", "attention_dropout")}
HF_DEPTH: Randomness = {DEPTH: ("drop_path_rate",)}

SHALLOW = {"depth": 4}
BEIT = {**SHALLOW, "embed_dim": 96, "num_heads": 3}
SWIN = {"depths": (1, 2, 2, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)}

NETWORKS = {
    f"{network.source}:{network.model}": network
    for network in (
        Network("timm", "resnet10t", TIMM),
        Network("timm", "resnetv2_18", TIMM),
        Network("timm", "legacy_seresnet18", TIMM_HEAD),
        Network("timm", "regnetx_002", TIMM),
        Network("timm", "test_efficientnet", TIMM),
        Network("timm", "mobilenetv3_small_050", TIMM),
        Network("timm", "test_convnext", TIMM),
        Network("timm", "test_mambaout", TIMM),
        Network("timm", "poolformer_s12", TIMM_MLP),
        Network("timm", "test_nfnet", TIMM),
        Network("timm", "vit_tiny_patch16_224", TIMM_ATTENTION, SHALLOW),
        Network("timm", "deit_tiny_distilled_patch16_224", TIMM_ATTENTION, SHALLOW),
        Network("timm", "beit_base_patch16_224", TIMM_ATTENTION, BEIT),
        Network("timm", "cait_xxs24_224", TIMM_ATTENTION, SHALLOW),
        Network("timm", "swin_tiny_patch4_window7_224", TIMM_ATTENTION, SWIN),
        Network("timm", "levit_128s", TIMM),
        Network("timm", "mobilevit_xxs", TIMM),
        Network("timm", "test_maxvit", TIMM),
        Network("timm", "gmlp_ti16_224", {DROPOUT: ("drop_rate", "proj_drop_rate"), **TIMM_DEPTH}),
        Network("torchvision", "alexnet", TORCHVISION),
        Network("torchvision", "resnet18"),
        Network("torchvision", "mobilenet_v2", TORCHVISION),
        Network("torchvision", "mobilenet_v3_small", TORCHVISION),
        Network("torchvision", "efficientnet_b0", {**TORCHVISION, **TORCHVISION_DEPTH}),
        Network("torchvision", "shufflenet_v2_x0_5"),
        Network("torchvision", "squeezenet1_1", TORCHVISION),
        Network("torchvision", "regnet_y_400mf"),
        Network("torchvision", "googlenet", TORCHVISION, {"init_weights": False}),
        Network("hf", "bert", BERT),
        Network("hf", "minilm", BERT),
        Network("hf", "distilbert", DISTILBERT),
        Network("hf", "roberta", BERT),
        Network("hf", "albert", BERT),
        Network("hf", "electra", BERT),
        Network("hf", "mpnet", BERT),
        Network("hf", "deberta v2 (v3)", BERT),
        Network("hf", "modernbert", MODERNBERT),
        Network("hf", "t5, encoder", {DROPOUT: ("dropout_rate",)}),
        Network("hf", "deit, distilled", BERT),
        Network("hf", "swin", {**BERT, **HF_DEPTH}),
        Network("hf", "convnext", HF_DEPTH),
    )
}
