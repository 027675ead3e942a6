"""Training by what a reconstruction does to the model that it stands in (Braun et al., 2405.12241)."""
