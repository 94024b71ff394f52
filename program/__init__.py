"""The settlement program: its C source, its build, and the artefact that is deployed."""
