"""Token-level work of several servers on one answer: the fused rule, drafting and verifying, handing over."""
