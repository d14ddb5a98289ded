"""Looking at figures: what can be read on them, and the marks on their axes."""

import matplotlib.text
from matplotlib.backends.backend_agg import FigureCanvasAgg

SMALLEST_TEXT = 7  # points


def check_readable(figure):
    """No text below SMALLEST_TEXT; no legend of a panel or the figure over a panel of curves.

    And no title beyond the edges of the figure. Returns the texts of the legends.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for text in figure.findobj(matplotlib.text.Text):
        assert not text.get_text() or text.get_fontsize() >= SMALLEST_TEXT, text
    renderer = canvas.get_renderer()
    for axis in figure.axes:
        box = axis.title.get_window_extent(renderer)
        assert not axis.get_title() or (box.x0 >= 0 and box.x1 <= figure.bbox.x1), axis.title
    legends = [*figure.legends, *filter(None, (axis.get_legend() for axis in figure.axes))]
    for legend in legends:
        box = legend.get_window_extent(renderer)
        for axis in figure.axes:
            if "sorted by value" not in axis.get_xlabel():  # the corner there is empty by nature
                assert not box.overlaps(axis.get_window_extent(renderer))
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def line(axis, label):
    return next(drawn for drawn in axis.get_lines() if drawn.get_label() == label)


def names_on(axis):
    """Labels of the y axis, from below."""
    return [text.get_text() for text in axis.get_yticklabels()]
