"""Multilayer perceptrons as heads: trained by torch, predicting with numpy."""
