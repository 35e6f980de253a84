"""On which machines Lipwright runs: KubeRay, the launcher, containers, batches, and how much a cluster does."""
