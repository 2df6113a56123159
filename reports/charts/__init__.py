"""The charts of report.html: pure geometry, from counted values to shapes; templates only write them down.

Rules (measurement.md 5.2, report-style.md "Charts"):
- Colours are presentation attributes of a middle lightness (at least 3:1 on white and on Chromium's dark canvas), text is
  `currentColor`: a chart reads under a policy that refuses every style, in light and in dark.
- One coordinate system: x in thousandths of the width, y in pixels. Shapes stretch with the page and text does not, so
  that a chart is as readable at 400 px as at 1280 px.
- A scatter is one path of points with round caps, a bin with nothing in it is no shape, coordinates keep one decimal.
- Every chart has a title, a description, axis titles with units, a sentence that can be checked, and its data as a table.
"""
