"""Linear heads: logistic regression for cached features, with one penalty or many."""
