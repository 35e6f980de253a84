"""On which machines Lipwright runs: KubeRay, the container image, and batch jobs."""
