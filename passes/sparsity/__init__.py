"""N:M masks: which weights stay, and in which order channels stand."""
