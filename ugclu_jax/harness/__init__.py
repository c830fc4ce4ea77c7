"""What experiments stand on: configuration, methods within a budget, runs and their folders, the command line.

No mathematics: that is the library's, and what is here calls it, measures it and keeps what it found.
"""
