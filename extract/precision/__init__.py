"""Lower precisions: bfloat16, float16 and int8 graphs, how they are judged and chosen."""
