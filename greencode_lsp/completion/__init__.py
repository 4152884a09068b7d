"""The completion service: request, cache, gate, worker, filters. No torch, no pygls."""
