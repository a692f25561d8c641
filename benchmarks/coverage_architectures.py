"""Small configurations of transformers architectures, made with random weights.

`use` says what is saved: "bare" the model without a head, "classifier" the model with one, as checkpoints of this
architecture usually have, "teacher" the one with a second classifier for a teacher, "vision" and "text" a model of two
towers of which that one is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A class of configurations with its arguments, and what is made of it."""

    config: str
    arguments: dict[str, Any]
    use: str = "bare"
    size: int = 64
    """Height and width of the images, in pixels."""


BODY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
VIT = {**BODY, "image_size": 64, "patch_size": 16}
TWO_SIZES = {**BODY, "image_size": 64, "patch_size": 16, "projection_dim": 16}
STAGES: dict[str, Any] = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 24, 32, 48]}
PYRAMID = {**STAGES, "num_attention_heads": [1, 2, 4, 8], "hidden_sizes": [16, 32, 32, 64]}
SWIN: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 16,
    "depths": [1, 2, 2],
    "num_heads": [2, 2, 4],
    "window_size": 4,
}
LEVIT: dict[str, Any] = {"hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 2, 1]}
HIERA: dict[str, Any] = {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1]}
CVT: dict[str, Any] = {"embed_dim": [16, 32, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}
HGNET: dict[str, Any] = {
    "stem_channels": [3, 8, 12],
    "stage_in_channels": [12, 16, 32, 48],
    "stage_mid_channels": [8, 8, 12, 16],
    "stage_out_channels": [16, 32, 48, 64],
    "hidden_sizes": [16, 32, 48, 64],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
}
EFFICIENTNET: dict[str, Any] = {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640}

WORDS = 128
"""Size of every vocabulary, special tokens included."""
BERT = {**BODY, "vocab_size": WORDS, "max_position_embeddings": 64}
ROBERTA = {**BERT, "max_position_embeddings": 66, "pad_token_id": 1}
DEBERTA = {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
DEBERTA_V3 = {**DEBERTA, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
LLAMA = {**BERT, "num_key_value_heads": 2, "head_dim": 8}
T5: dict[str, Any] = {"vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 4, "num_heads": 4}
GPT2: dict[str, Any] = {"vocab_size": WORDS, "n_positions": 64, "n_embd": 32, "n_layer": 4, "n_head": 4}
XLNET: dict[str, Any] = {"vocab_size": WORDS, "d_model": 32, "n_layer": 4, "n_head": 4, "d_inner": 64}
XLM: dict[str, Any] = {"vocab_size": WORDS, "emb_dim": 32, "n_layers": 4, "n_heads": 4, "max_position_embeddings": 64}
DISTIL: dict[str, Any] = {"vocab_size": WORDS, "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64}
FUNNEL: dict[str, Any] = {
    "vocab_size": WORDS,
    "block_sizes": [1, 2, 1],
    "d_model": 32,
    "n_head": 4,
    "d_head": 8,
    "d_inner": 64,
}
BART: dict[str, Any] = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 4,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
BETWEEN = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
"""Token ids that fit the small vocabulary, where the usual ones lie outside it."""
MODERN = {**BERT, **BETWEEN, "cls_token_id": 2, "sep_token_id": 3}
TOWER = {**BERT, **BETWEEN, "projection_dim": 16}
TOWERS: dict[str, Any] = {"vision_config": TWO_SIZES, "text_config": TOWER, "projection_dim": 16}

VISION = {
    "vit": Architecture("ViTConfig", VIT, "classifier"),
    "vit, with pooler": Architecture("ViTConfig", VIT),
    "deit": Architecture("DeiTConfig", VIT, "classifier"),
    "deit, distilled": Architecture("DeiTConfig", VIT, "teacher"),
    "beit": Architecture("BeitConfig", {**VIT, "use_relative_position_bias": True}, "classifier"),
    "data2vec-vision": Architecture("Data2VecVisionConfig", {**VIT, "use_relative_position_bias": True}, "classifier"),
    "dinov2": Architecture("Dinov2Config", {**VIT, "patch_size": 14, "image_size": 70}, size=56),
    "dinov2, with classifier": Architecture(
        "Dinov2Config", {**VIT, "patch_size": 14, "image_size": 56}, "classifier", 56
    ),
    "dinov2 with registers": Architecture("Dinov2WithRegistersConfig", {**VIT, "patch_size": 14}, size=56),
    "dinov3 vit": Architecture("DINOv3ViTConfig", {**VIT, "num_register_tokens": 4}),
    "dinov3 convnext": Architecture("DINOv3ConvNextConfig", {**STAGES, "image_size": 64}),
    "vit-msn": Architecture("ViTMSNConfig", VIT),
    "vit-mae": Architecture("ViTMAEConfig", VIT),
    "i-jepa": Architecture("IJepaConfig", VIT),
    "clip, vision": Architecture("CLIPConfig", TOWERS, "vision"),
    "siglip, vision": Architecture("SiglipConfig", TOWERS, "vision"),
    "chinese-clip, vision": Architecture("ChineseCLIPConfig", TOWERS, "vision"),
    "aimv2, vision": Architecture("Aimv2VisionConfig", VIT),
    "vitdet": Architecture("VitDetConfig", {**VIT, "pretrain_image_size": 64}),
    "yolos": Architecture("YolosConfig", {**VIT, "image_size": [64, 64], "num_detection_tokens": 5}),
    "swin": Architecture("SwinConfig", SWIN, "classifier"),
    "swinv2": Architecture("Swinv2Config", SWIN, "classifier"),
    "hiera": Architecture("HieraConfig", HIERA, "classifier"),
    "levit": Architecture("LevitConfig", {**LEVIT, "image_size": 64, "key_dim": [8, 8, 8]}, "teacher"),
    "cvt": Architecture("CvtConfig", CVT, "classifier"),
    "pvt": Architecture("PvtConfig", {**PYRAMID, "image_size": 64}, "classifier"),
    "pvt v2": Architecture("PvtV2Config", {**PYRAMID, "image_size": 64}, "classifier"),
    "segformer": Architecture("SegformerConfig", PYRAMID, "classifier"),
    "poolformer": Architecture("PoolFormerConfig", STAGES, "classifier"),
    "focalnet": Architecture("FocalNetConfig", {**STAGES, "image_size": 64, "embed_dim": 16}, "classifier"),
    "swiftformer": Architecture(
        "SwiftFormerConfig", {"depths": [1, 1, 2, 1], "embed_dims": [16, 24, 32, 48]}, "classifier"
    ),
    "mobilevit": Architecture("MobileViTConfig", {"hidden_sizes": [24, 32, 40], "image_size": 64}, "classifier"),
    "mobilevit v2": Architecture("MobileViTV2Config", {"width_multiplier": 0.5, "image_size": 64}, "classifier"),
    "mobilenet v1": Architecture("MobileNetV1Config", {"depth_multiplier": 0.25, "image_size": 64}, "classifier"),
    "mobilenet v2": Architecture("MobileNetV2Config", {"depth_multiplier": 0.35, "image_size": 64}, "classifier"),
    "efficientnet": Architecture("EfficientNetConfig", {**EFFICIENTNET, "image_size": 64}, "classifier"),
    "convnext": Architecture("ConvNextConfig", STAGES, "classifier"),
    "convnext v2": Architecture("ConvNextV2Config", STAGES, "classifier"),
    "resnet": Architecture("ResNetConfig", {**STAGES, "embedding_size": 16}, "classifier"),
    "regnet": Architecture("RegNetConfig", {**STAGES, "embedding_size": 16, "groups_width": 8}, "classifier"),
    "bit": Architecture(
        "BitConfig", {"depths": [1, 1, 2, 1], "hidden_sizes": [32, 32, 64, 64], "num_groups": 8}, "classifier"
    ),
    "hgnet v2": Architecture("HGNetV2Config", HGNET, "classifier"),
    "textnet": Architecture("TextNetConfig", {"image_size": [64, 64]}, "classifier"),
}

TEXT = {
    "bert": Architecture("BertConfig", BERT),
    "bert, with classifier": Architecture("BertConfig", BERT, "classifier"),
    "roberta": Architecture("RobertaConfig", ROBERTA),
    "roberta, with classifier": Architecture("RobertaConfig", ROBERTA, "classifier"),
    "xlm-roberta": Architecture("XLMRobertaConfig", ROBERTA),
    "camembert": Architecture("CamembertConfig", ROBERTA),
    "distilbert": Architecture("DistilBertConfig", {**DISTIL, "max_position_embeddings": 64}),
    "distilbert, with classifier": Architecture("DistilBertConfig", DISTIL, "classifier"),
    "mpnet": Architecture("MPNetConfig", ROBERTA),
    "albert": Architecture("AlbertConfig", {**BERT, "embedding_size": 16}),
    "electra": Architecture("ElectraConfig", {**BERT, "embedding_size": 16}),
    "deberta": Architecture("DebertaConfig", DEBERTA),
    "deberta v2 (v3)": Architecture("DebertaV2Config", DEBERTA_V3),
    "deberta v2, with classifier": Architecture("DebertaV2Config", DEBERTA_V3, "classifier"),
    "modernbert": Architecture("ModernBertConfig", {**MODERN, "local_attention": 8}),
    "nomic-bert": Architecture("NomicBertConfig", BERT),
    "ernie": Architecture("ErnieConfig", BERT),
    "mobilebert": Architecture("MobileBertConfig", {**BERT, "embedding_size": 32, "intra_bottleneck_size": 32}),
    "squeezebert": Architecture("SqueezeBertConfig", {**BERT, "embedding_size": 32}),
    "convbert": Architecture("ConvBertConfig", {**BERT, "embedding_size": 32}),
    "roformer": Architecture("RoFormerConfig", BERT),
    "rembert": Architecture("RemBertConfig", {**BERT, "input_embedding_size": 16, "output_embedding_size": 16}),
    "ibert": Architecture("IBertConfig", ROBERTA),
    "nystromformer": Architecture("NystromformerConfig", {**BERT, "segment_means_seq_len": 64, "num_landmarks": 64}),
    "fnet": Architecture("FNetConfig", BERT),
    "funnel": Architecture("FunnelConfig", FUNNEL),
    "longformer": Architecture("LongformerConfig", {**ROBERTA, "attention_window": 8}),
    "big bird": Architecture("BigBirdConfig", BERT),
    "big bird, full attention": Architecture("BigBirdConfig", {**BERT, "attention_type": "original_full"}),
    "xlnet": Architecture("XLNetConfig", XLNET),
    "xlm": Architecture("XLMConfig", XLM),
    "esm": Architecture("EsmConfig", {**ROBERTA, "position_embedding_type": "rotary"}),
    "t5, encoder": Architecture("T5Config", T5),
    "umt5, encoder": Architecture("UMT5Config", T5),
    "bart": Architecture("BartConfig", BART),
    "gpt-2": Architecture("GPT2Config", {**GPT2, "bos_token_id": 2, "eos_token_id": 3}),
    "gpt-neox": Architecture("GPTNeoXConfig", {**BERT, **BETWEEN}),
    "opt": Architecture("OPTConfig", {**BERT, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "llama": Architecture("LlamaConfig", LLAMA),
    "mistral": Architecture("MistralConfig", {**LLAMA, "sliding_window": 8}),
    "qwen2": Architecture("Qwen2Config", LLAMA),
    "qwen3": Architecture("Qwen3Config", LLAMA),
    "gemma2": Architecture("Gemma2Config", {**LLAMA, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "gemma3, text": Architecture("Gemma3TextConfig", {**LLAMA, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "clip, text": Architecture("CLIPConfig", TOWERS, "text"),
    "siglip, text": Architecture("SiglipConfig", TOWERS, "text"),
}
ARCHITECTURES = {**VISION, **TEXT}
