"""The fops of distribute, each module a part of them."""
