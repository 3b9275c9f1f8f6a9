"""Documents at these addresses are valid OpenAPI 3.1."""

import json
import sys
import urllib.request

import openapi_spec_validator

for address in sys.argv[1:]:
    document = json.load(urllib.request.urlopen(address))
    openapi_spec_validator.validate(document, cls=openapi_spec_validator.OpenAPIV31SpecValidator)
    count = sum(len(item) for item in document["paths"].values())
    print(f"{address}: valid, {count} operations")
