"""What the library costs, one module a question: `python -m benchmarks.NAME [--smoke]`, all of them by `make bench`."""
