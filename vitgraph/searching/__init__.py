"""How much of each layer stays: N:M levels by a supernet and evolution (ELSA), tiles and units by equal slopes (LPViT)."""
