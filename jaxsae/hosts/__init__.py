"""The hosts of a run: how its processes meet, agree, watch each other and leave when they are told to."""
