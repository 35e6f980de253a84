"""Everything that goes out to the network: guarded addresses, fetched inputs, webhooks."""
