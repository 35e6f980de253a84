"""Speech: how loud it is, what a network hears in it, and the mouth that goes with it."""
