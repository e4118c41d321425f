"""Images: sets by name, folders and factories; decoded once, then shown in batches."""

from pipeline.data.catalogue import Images as Images
