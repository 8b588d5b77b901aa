"""The parts of the serving bench (`eval/serving.py`): texts, environment, processes, summary, page."""
