"""What all deployments share: calls between them, what their errors mean, their threads."""
