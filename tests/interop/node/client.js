// Runs one upload of tus-js-client, as its argument (JSON) says, and prints what came of it as one line of JSON.
//
// {endpoint, file, options?, storage?, stopAfter?, terminate?}: `storage` is a file that remembers where uploads go on;
// `stopAfter` bytes the upload is abandoned as by a page that is closed, or with `terminate` given up for good.
import fs from 'node:fs'
import { PassThrough } from 'node:stream'
import * as tus from 'tus-js-client'

const task = JSON.parse(process.argv[2])
// Of a part of a file it never knows that it is the last one: it asks for ever whether a file whose length is not told is
// whole, and never tells the drafts so. Of streams that are no files, and of buffers, it does.
function open(path, options) {
  if (options.protocol !== undefined) return fs.readFileSync(path)
  const stream = fs.createReadStream(path)
  return options.uploadLengthDeferred ? stream.pipe(new PassThrough()) : stream
}

const file = open(task.file, task.options ?? {})
const requests = []

function tell(outcome) {
  process.stdout.write(`${JSON.stringify({ url: upload.url, requests, ...outcome })}\n`)
  process.exit(outcome.error ? 1 : 0)
}

const upload = new tus.Upload(file, {
  endpoint: task.endpoint,
  metadata: { filename: 'file.bin', filetype: 'application/x-test' },
  // Cuts come as fast as the network is bad; each one that brought bytes begins the list anew.
  retryDelays: Array(100).fill(10),
  ...(task.storage ? { urlStorage: new tus.FileUrlStorage(task.storage) } : {}),
  ...task.options,
  onAfterResponse(request, response) {
    requests.push([
      request.getMethod(),
      request.getHeader('X-HTTP-Method-Override') ?? null,
      response.getStatus(),
    ])
  },
  onProgress(sent) {
    if (task.stopAfter !== undefined && sent >= task.stopAfter) {
      upload.abort(Boolean(task.terminate)).then(
        () => tell({ stopped: true }),
        (error) => tell({ error: String(error) }),
      )
    }
  },
  onError(error) {
    tell({ error: String(error) })
  },
  onSuccess() {
    tell({ done: true })
  },
})

const previous = task.storage ? await upload.findPreviousUploads() : []
if (previous.length > 0) {
  upload.resumeFromPreviousUpload(previous[0])
}
upload.start()
