/* Seals video and opens it again in one pipeline, from C; tells what the elements report.
 *
 *   cc -o embed examples/c/embed.c $(pkg-config --cflags --libs gstreamer-1.0)
 *   export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
 *   ./embed KEY_FILE [KEY_FILE_OF_THE_RECEIVER]
 *
 * Nothing of gst-plugins-e2ee is needed to compile or link this: elements come from the registry, and all that they
 * offer are properties, statistics and messages. Give the receiver a file with another key to see a failure reported.
 */
#include <gst/gst.h>

/* A counter of an element's statistics. */
static guint64 count(GstElement *element, const char *field) {
  GstStructure *stats = NULL;
  guint64 value = 0;
  g_object_get(element, "stats", &stats, NULL);
  if (stats != NULL) {
    gst_structure_get_uint64(stats, field, &value);
    gst_structure_free(stats);
  }
  return value;
}

/* The elements post these at most once a second, each for all that happened since. */
static void tell(GstMessage *message) {
  const GstStructure *said = gst_message_get_structure(message);
  guint64 kid = 0, frames = 0;
  if (!gst_structure_has_name(said, "sframe-decrypt-failed") && !gst_structure_has_name(said, "sframe-key-missing"))
    return;
  gst_structure_get_uint64(said, "kid", &kid);
  gst_structure_get_uint64(said, "count", &frames);
  g_print("%s: %s, KID %" G_GUINT64_FORMAT ", %s, %" G_GUINT64_FORMAT " frames\n", GST_OBJECT_NAME(message->src),
          gst_structure_get_name(said), kid, gst_structure_get_string(said, "cause"), frames);
}

static void tell_error(GstMessage *message) {
  GError *error = NULL;
  gst_message_parse_error(message, &error, NULL);
  g_printerr("%s: %s\n", GST_OBJECT_NAME(message->src), error->message);
  g_error_free(error);
}

/* Plays to the end; FALSE after an error. */
static gboolean play(GstElement *pipeline) {
  GstBus *bus = gst_element_get_bus(pipeline);
  gboolean over = FALSE, good = TRUE;
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  while (!over) {
    GstMessage *message = gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE,
                                                     GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT);
    switch (GST_MESSAGE_TYPE(message)) {
      case GST_MESSAGE_ELEMENT:
        tell(message);
        break;
      case GST_MESSAGE_ERROR:
        tell_error(message);
        good = FALSE;
        over = TRUE;
        break;
      default:
        over = TRUE;
    }
    gst_message_unref(message);
  }
  gst_object_unref(bus);
  return good;
}

int main(int argc, char **argv) {
  GstElement *pipeline, *seal, *open;
  GError *error = NULL;
  guint64 sealed, opened;
  gboolean good;

  gst_init(&argc, &argv);
  if (argc < 2 || argc > 3) {
    g_printerr("usage: %s KEY_FILE [KEY_FILE_OF_THE_RECEIVER]\n", argv[0]);
    return 2;
  }
  pipeline = gst_parse_launch("videotestsrc num-buffers=60 ! vp8enc deadline=1 ! sframeenc name=seal ! rtpsframepay "
                              "! rtpsframedepay ! sframedec name=open ! fakesink",
                              &error);
  if (error != NULL) {
    g_printerr("%s\n", error->message);
    return 1;
  }
  seal = gst_bin_get_by_name(GST_BIN(pipeline), "seal");
  open = gst_bin_get_by_name(GST_BIN(pipeline), "open");
  /* KID 1 is this sender's. In a call each sender has KIDs of its own. */
  g_object_set(seal, "key-file", argv[1], "kid", (guint64)1, NULL);
  g_object_set(open, "key-file", argv[argc - 1], NULL);

  good = play(pipeline);
  /* Before the pipeline goes to NULL: a new start counts from 0. */
  sealed = count(seal, "sealed");
  opened = count(open, "opened");
  g_print("sealed %" G_GUINT64_FORMAT ", opened %" G_GUINT64_FORMAT ", failed %" G_GUINT64_FORMAT ", without key %"
          G_GUINT64_FORMAT "\n", sealed, opened, count(open, "auth-failed"), count(open, "no-key"));

  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(seal);
  gst_object_unref(open);
  gst_object_unref(pipeline);
  return good && sealed > 0 && opened == sealed ? 0 : 1;
}
