"""From an archive of chest radiographs to a pneumonia classifier and its honest metrics."""
