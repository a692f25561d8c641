"""What does a customer ask for? ``python banking_intents.py FOLDER MODEL``.

FOLDER has ``train.csv`` and ``test.csv`` with the columns ``text`` and ``category``; MODEL is a text model of
transformers, such as ``sentence-transformers/all-MiniLM-L6-v2``, or the folder of one.
"""

import sys
import tempfile
from pathlib import Path

import topwork

folder, model = sys.argv[1:]
store = Path(tempfile.mkdtemp()) / "questions"
questions = topwork.Table(f"{folder}/train.csv", text="text", label="category")
new = topwork.Table(f"{folder}/test.csv", text="text", label="category")

# The features are computed once, and all heads are trained from them.
backbone = topwork.load_backbone(f"hf:{model}")
for head in ("linear", "centroid", "knn"):
    classifier = topwork.TransferClassifier(backbone, head=head, store=store).fit(questions)
    print(f"{head:9} {classifier.fit_report_.held_out:.3f} in folds, {classifier.score(new):.3f} on new questions")

print(classifier.predict(["My card has not arrived yet", "How old do I have to be?"]).tolist())
