"""An ordinary Flask app: template, JSON, path and query parameters, upload, streaming.

reactor-run examples.flask_app:app
"""

import hashlib
from collections.abc import Iterator

from flask import (
    Flask,
    Response,
    abort,
    jsonify,
    render_template_string,
    request,
    stream_with_context,
)
from flask.typing import ResponseReturnValue

PAGE = """<!doctype html>
<title>{{ title }}</title>
<h1>{{ title }}</h1>
<p>Hello, {{ name }}. You came from {{ request.remote_addr }} by {{ request.scheme }}.</p>
<form method="post" action="{{ url_for('upload') }}" enctype="multipart/form-data">
  <input type="file" name="file" required> <button>Upload</button>
</form>
"""

app = Flask(__name__)


@app.get("/")
def index() -> ResponseReturnValue:
    name = request.args.get("name", "visitor")
    return render_template_string(PAGE, title="Flask on reactor-run", name=name)


@app.get("/items/<int:item_id>")
def read_item(item_id: int) -> ResponseReturnValue:
    return jsonify(item_id=item_id, q=request.args.get("q"), tags=request.args.getlist("tag"))


@app.post("/items")
def create_item() -> ResponseReturnValue:
    return jsonify(request.get_json()), 201


@app.post("/upload")
def upload() -> ResponseReturnValue:
    file = request.files.get("file")
    if file is None:
        abort(400, "send a file in the field 'file'")
    digest = hashlib.sha256()
    size = 0
    while chunk := file.stream.read(64 * 1024):
        digest.update(chunk)
        size += len(chunk)
    return jsonify(filename=file.filename, size=size, sha256=digest.hexdigest())


@app.get("/stream")
def stream() -> ResponseReturnValue:
    lines = request.args.get("lines", 10, type=int)

    def produce() -> Iterator[str]:
        for number in range(lines):
            yield f"line {number} of {request.path}\n"

    return Response(stream_with_context(produce()), mimetype="text/plain")


@app.get("/broken")
def broken() -> ResponseReturnValue:
    raise RuntimeError("this view always fails")
