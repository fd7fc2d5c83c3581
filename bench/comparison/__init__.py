"""Times `densenet` and its rivals side by side on one machine. `bench/README.md` says what is timed and what is not."""
