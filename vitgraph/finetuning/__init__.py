"""`vitgraph train`: from a recipe of stages to a trained program and a report; what trains is in `vitgraph.training`."""
