// The text format of Server-Sent Events, as pure functions.

/** The complete blocks of a buffer and the rest, which is the beginning of the next block. */
export function splitBlocks(buffer) {
  const blocks = buffer.split("\n\n");
  return { rest: blocks.pop(), blocks };
}

/** One block as {topic, event, id, data}: topic is "" without one, id a number or null, the data lines are joined. */
export function parseBlock(block) {
  let topic = "";
  let event = "message";
  let id = null;
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("topic: ")) topic = line.slice(7);
    else if (line.startsWith("event: ")) event = line.slice(7);
    else if (line.startsWith("id: ")) id = Number(line.slice(4));
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return { topic, event, id, data: data.join("\n") };
}
