"""A chat in; its answer, route and passages out."""
