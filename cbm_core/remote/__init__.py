"""Reading files on the web and on S3 by ranges of bytes, so that what arrives is right or an error.

``storage`` signs addresses of S3, ``web`` asks and ends waiting, ``objects`` holds all answers
against one version of a file, ``files`` shows such a file to GDAL.
"""
