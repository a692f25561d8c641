"""Examples that the help of each command shows; each is a complete command line, of at most 74 characters."""

from __future__ import annotations

EXAMPLES = {
    "layers": [
        "topwork layers timm:resnet18",
        "topwork layers timm:resnet18 --check --items photos/",
    ],
    "extract": [
        "topwork extract photos/ --store features --backbone timm:resnet50",
        "topwork extract photos/ --store features --layer layer3,last --plan",
        "topwork extract texts.csv --store features --backbone hf:MODEL",
        "topwork extract photos/ --store features --shard 3/64",
    ],
    "store info": ["topwork store info features"],
    "store verify": ["topwork store verify features"],
    "store repair": ["topwork store repair features"],
    "store failures": ["topwork store failures features --out failures.csv"],
    "store retry": ["topwork store retry features photos/"],
    "store label": ["topwork store label features labels.csv"],
    "store compact": ["topwork store compact features --dry-run"],
    "store merge": ["topwork store merge features", "topwork store merge features other-features"],
    "store export": [
        "topwork store export features rows.parquet",
        "topwork store export features rows --format datasets",
    ],
    "store import": ["topwork store import features vectors.npy --labels labels.csv"],
    "audit": ["topwork audit features --out findings.csv"],
    "probe": [
        "topwork probe photos/ --backbone timm:resnet18",
        "topwork probe photos/ --layer last --precisions",
        "topwork probe features --json",
    ],
    "advise": ["topwork advise photos/ --backbone timm:resnet18"],
    "fit": [
        "topwork fit photos/ --backbone timm:resnet18 --layer auto --out bundle",
        "topwork fit features --head auto --out bundle",
    ],
    "finetune": [
        "topwork finetune photos/ --backbone timm:resnet18 --out bundle",
        "topwork finetune photos/ --from layer3 --store maps --out bundle",
    ],
    "refit": [
        "topwork refit bundle features --labels labels.csv --out bundle-2",
        "topwork refit bundle features --train-on-all --out bundle --overwrite",
    ],
    "evaluate": ["topwork evaluate bundle photos/test --mistakes mistakes.csv"],
    "predict": [
        "topwork predict bundle photo.jpg",
        "topwork predict bundle photos/ --out predictions.csv --top-k 3",
    ],
    "explain": ["topwork explain bundle photo.jpg --out photo.png"],
    "export": ["topwork export bundle model.onnx"],
    "report": [
        "topwork report bundle photos/ --out report.html",
        "topwork report bundle features --items photos/ --out report.html",
    ],
    "cache info": ["topwork cache info"],
    "cache clean": ["topwork cache clean --older-than 30 --dry-run"],
    "cache verify": ["topwork cache verify"],
    "show": ["topwork show bundle", "topwork show features", "topwork show model.onnx"],
    "heads": ["topwork heads"],
    "doctor": [
        "topwork doctor --bench",
        "topwork doctor --bench --backbone timm:resnet50 --weights random",
        "topwork doctor --bench --backbone timm:resnet50 --items photos/",
    ],
    "demo": ["topwork demo --keep demo"],
}
