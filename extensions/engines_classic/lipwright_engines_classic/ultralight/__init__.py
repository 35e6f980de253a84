"""Ultralight Digital Human: a small network trained for one person, driven by HuBERT or WeNet features."""
