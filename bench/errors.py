"""What keeps a measurement from being made."""


class CannotMeasure(Exception):
    """Nothing can be measured here; the message tells the user what to mend."""


class DidNotStart(Exception):
    """One server does not run or does not answer as it should; the others can be measured."""


class RunFailed(Exception):
    """One run gave no figures."""
