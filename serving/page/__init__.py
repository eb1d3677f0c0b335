"""The page of a server: plain HTML, a style and a script, without a build step."""
