"""Token-level fusion: several models that speak one text together, served by vLLM as one model.

FusionRoute (arXiv 2601.05106): at every token a small router picks the expert that speaks, and adds its own
log-probabilities to the expert's. `rule.py` states it, `checkpoint.py` makes a composite checkpoint of members,
`plugin.py` and `model.py` serve it with vLLM, `marks.py` tells who spoke each token, `reference.py` is the slow and
plain form that the fast one is tested against.
"""
