"""What the implementations are made of: passes over tiles, selections by buckets and bins, certificates and repairs."""
