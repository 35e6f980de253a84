"""What live sessions take, and whether they hold."""
