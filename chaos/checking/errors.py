"""When there is nothing to judge by."""


class CannotJudge(Exception):
    """Something that the judge needs cannot be read. One line for people: what, and what to do."""
