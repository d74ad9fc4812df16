"""Parts of the corpus renderer; `scripts/render_corpus.py` is the command."""
