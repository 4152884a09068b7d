"""From document to token ids: context, fill-in-the-middle, tokenizer. No torch."""
