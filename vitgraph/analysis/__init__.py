"""What a graph means: sites, attentions, how channels flow, and where it can be cut."""
