/* A sender that brings its own keys: it makes them, gives them to its receivers in its own way, and seals with them.
 *
 *   cc -o key_source examples/c/key_source.c $(pkg-config --cflags --libs gstreamer-1.0)
 *   export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
 *   ./key_source HOST PORT KEY_FILE
 *
 * A key source is a GstObject with seven signals; plugins/common/src/key_source.rs is the contract, in which nothing of
 * gst-plugins-e2ee is needed to compile or link. GStreamer calls it from its streaming threads.
 *
 * KEY_FILE is made here, for the property key-file of a receiver's sframedec. A product sends the keys over a channel that
 * is end-to-end encrypted itself. Then press Enter: until it is said that the receivers have the keys, there is none to
 * seal with, and nothing is sent. At the sixtieth frame the sender goes on to its second key, and it ends with frame 120.
 */
#include <errno.h>
#include <fcntl.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define AES_128_GCM_SHA256_128 4u /* the number of the cipher suite at IANA; its base key has 16 bytes or more */
#define KEY_LENGTH 16
#define KEYS 2
#define FRAMES_PER_KEY 60u
#define RANGE (G_GUINT64_CONSTANT(1) << 32) /* counters in one answer */

/* The key source: fresh keys, that live as long as the process. So do the counters: a key that outlived them would be
 * used twice with the same counter, which breaks its encryption. */

typedef struct {
  guint8 base_key[KEY_LENGTH];
  guint64 next_counter;
} Key;

G_DECLARE_FINAL_TYPE(KeySource, key_source, KEY, SOURCE, GstObject)

struct _KeySource {
  GstObject parent;
  /* Under the object's lock. The KID is the index and 1. */
  Key keys[KEYS];
  guint64 sending; /* KID to seal with; 0: none */
};

G_DEFINE_FINAL_TYPE(KeySource, key_source, GST_TYPE_OBJECT)

enum { SENDER_KEY, RECEIVER_KEY, FRAME_OPENED, ROOM_STATE, SIGN, KEYS_CHANGED, ROOM_CHANGED, SIGNALS };
static guint signals[SIGNALS];

/* A key and a range of its counters. No counter may be given out twice for one key and KID, to whichever stream. NULL: no
 * key now, the frame is dropped. Never print what this returns: it shows the key. */
static GstStructure *key_source_sender_key(KeySource *self, const gchar *stream) {
  GstStructure *answer = NULL;
  (void)stream;
  GST_OBJECT_LOCK(self);
  if (self->sending != 0) {
    Key *key = &self->keys[self->sending - 1];
    GBytes *base_key = g_bytes_new(key->base_key, KEY_LENGTH);
    answer = gst_structure_new("sframe-sender-key", "kid", G_TYPE_UINT64, self->sending, "cipher-suite", G_TYPE_UINT,
                               AES_128_GCM_SHA256_128, "base-key", G_TYPE_BYTES, base_key, "counter", G_TYPE_UINT64,
                               key->next_counter, "counter-end", G_TYPE_UINT64, key->next_counter + RANGE, "epoch",
                               G_TYPE_UINT64, G_GUINT64_CONSTANT(0), NULL);
    g_bytes_unref(base_key);
    key->next_counter += RANGE;
  }
  GST_OBJECT_UNLOCK(self);
  return answer;
}

/* This program opens nothing, is in no room and signs nothing: the answer to each of these is "unknown". */
static GstStructure *key_source_nothing_known(KeySource *self, guint64 number) {
  (void)self, (void)number;
  return NULL;
}

static void key_source_frame_opened(KeySource *self, guint64 kid) { (void)self, (void)kid; }

static GBytes *key_source_sign(KeySource *self, const gchar *purpose, GBytes *data) {
  (void)self, (void)purpose, (void)data;
  return NULL;
}

static void key_source_finalize(GObject *object) {
  explicit_bzero(KEY_SOURCE(object)->keys, sizeof KEY_SOURCE(object)->keys);
  G_OBJECT_CLASS(key_source_parent_class)->finalize(object);
}

static void key_source_class_init(KeySourceClass *class) {
  const GSignalFlags action = G_SIGNAL_RUN_LAST | G_SIGNAL_ACTION;
  const GType type = G_TYPE_FROM_CLASS(class);

  G_OBJECT_CLASS(class)->finalize = key_source_finalize;
  signals[SENDER_KEY] = g_signal_new_class_handler("sender-key", type, action, G_CALLBACK(key_source_sender_key), NULL,
                                                   NULL, NULL, GST_TYPE_STRUCTURE, 1, G_TYPE_STRING);
  signals[RECEIVER_KEY] = g_signal_new_class_handler("receiver-key", type, action, G_CALLBACK(key_source_nothing_known),
                                                     NULL, NULL, NULL, GST_TYPE_STRUCTURE, 1, G_TYPE_UINT64);
  signals[FRAME_OPENED] = g_signal_new_class_handler("frame-opened", type, action, G_CALLBACK(key_source_frame_opened),
                                                     NULL, NULL, NULL, G_TYPE_NONE, 1, G_TYPE_UINT64);
  signals[ROOM_STATE] = g_signal_new_class_handler("room-state", type, action, G_CALLBACK(key_source_nothing_known), NULL,
                                                   NULL, NULL, GST_TYPE_STRUCTURE, 1, G_TYPE_UINT64);
  signals[SIGN] = g_signal_new_class_handler("sign", type, action, G_CALLBACK(key_source_sign), NULL, NULL, NULL,
                                             G_TYPE_BYTES, 2, G_TYPE_STRING, G_TYPE_BYTES);
  /* These two the source emits, and nobody handles them here. */
  signals[KEYS_CHANGED] = g_signal_new_class_handler("keys-changed", type, G_SIGNAL_RUN_LAST, NULL, NULL, NULL, NULL,
                                                     G_TYPE_NONE, 1, G_TYPE_UINT64);
  signals[ROOM_CHANGED] = g_signal_new_class_handler("room-changed", type, G_SIGNAL_RUN_LAST, NULL, NULL, NULL, NULL,
                                                     G_TYPE_NONE, 1, G_TYPE_UINT64);
}

static void key_source_init(KeySource *self) {
  for (gsize i = 0; i < KEYS; i++) {
    if (getrandom(self->keys[i].base_key, KEY_LENGTH, 0) != KEY_LENGTH)
      g_error("no random bytes for a key: %s", g_strerror(errno));
  }
}

/* What the application calls. */

/* Seals with this key from now on. */
static void key_source_send_with(KeySource *self, guint64 kid) {
  GST_OBJECT_LOCK(self);
  self->sending = kid;
  GST_OBJECT_UNLOCK(self);
  /* Without the lock: the elements ask at once. */
  g_signal_emit(self, signals[KEYS_CHANGED], 0, G_GUINT64_CONSTANT(0));
}

/* Writes all keys where only the user of this process can read them; the file must be a new one. */
static gboolean key_source_write(KeySource *self, const char *path) {
  int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  FILE *out = file < 0 ? NULL : fdopen(file, "w");
  gboolean good = out != NULL;
  for (gsize i = 0; good && i < KEYS; i++) {
    good = fprintf(out, "%zu ", i + 1) > 0;
    for (gsize byte = 0; good && byte < KEY_LENGTH; byte++)
      good = fprintf(out, "%02x", self->keys[i].base_key[byte]) > 0;
    good = good && fputc('\n', out) != EOF;
  }
  if (out != NULL && fclose(out) != 0)
    good = FALSE;
  if (!good)
    g_printerr("cannot write the keys to a new file %s: %s\n", path, g_strerror(errno));
  return good;
}

/* The sender. */

typedef struct {
  GMainLoop *loop;
  GstElement *pipeline;
  KeySource *keys;
  guint frames; /* sealed; only the streaming thread counts them */
  gboolean failed;
} Sender;

/* Each sealed frame passes here, in the streaming thread. */
static GstPadProbeReturn sealed(GstPad *pad, GstPadProbeInfo *info, gpointer data) {
  Sender *sender = data;
  (void)pad, (void)info;
  sender->frames++;
  if (sender->frames == FRAMES_PER_KEY)
    key_source_send_with(sender->keys, 2); /* sframeenc has the encoder make a keyframe, and goes on with the new key */
  else if (sender->frames == KEYS * FRAMES_PER_KEY)
    gst_element_post_message(sender->pipeline, gst_message_new_application(GST_OBJECT(sender->pipeline),
                                                                           gst_structure_new_empty("enough")));
  return sender->frames > KEYS * FRAMES_PER_KEY ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
}

static gboolean heard(GstBus *bus, GstMessage *message, gpointer data) {
  Sender *sender = data;
  const GstStructure *said = gst_message_get_structure(message);
  (void)bus;
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    GError *error = NULL;
    gst_message_parse_error(message, &error, NULL);
    g_printerr("%s: %s\n", GST_OBJECT_NAME(message->src), error->message);
    g_error_free(error);
    sender->failed = TRUE;
    g_main_loop_quit(sender->loop);
  } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) {
    g_main_loop_quit(sender->loop);
  } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_APPLICATION) {
    gst_element_send_event(sender->pipeline, gst_event_new_eos());
  } else if (said != NULL && gst_structure_has_name(said, "sframe-key-missing")) {
    g_print("no key yet: nothing is sent\n");
  }
  return G_SOURCE_CONTINUE;
}

/* Enter: the receivers have the keys. */
static gboolean handed_over(GIOChannel *input, GIOCondition condition, gpointer data) {
  Sender *sender = data;
  gchar *line = NULL;
  (void)condition;
  if (g_io_channel_read_line(input, &line, NULL, NULL, NULL) == G_IO_STATUS_NORMAL) {
    key_source_send_with(sender->keys, 1);
  } else {
    g_printerr("the input ended before anybody said that the receivers have the keys\n");
    sender->failed = TRUE;
    g_main_loop_quit(sender->loop);
  }
  g_free(line);
  return G_SOURCE_REMOVE;
}

static guint64 count(const GstStructure *stats, const char *field) {
  guint64 value = 0;
  gst_structure_get_uint64(stats, field, &value);
  return value;
}

/* Sends until it is over; FALSE after an error. */
static gboolean send_video(Sender *sender, GstElement *seal) {
  GstBus *bus = gst_element_get_bus(sender->pipeline);
  GIOChannel *input = g_io_channel_unix_new(STDIN_FILENO);
  GstPad *pad = gst_element_get_static_pad(seal, "src");
  GstStructure *stats = NULL;

  gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, sealed, sender, NULL);
  g_object_set(seal, "key-source", sender->keys, NULL);
  gst_bus_add_watch(bus, heard, sender);
  g_io_add_watch(input, G_IO_IN | G_IO_HUP, handed_over, sender);
  /* Should it fail, the reason is on the bus. */
  gst_element_set_state(sender->pipeline, GST_STATE_PLAYING);
  g_main_loop_run(sender->loop);

  /* Before the pipeline goes to NULL: a new start counts from 0. */
  g_object_get(seal, "stats", &stats, NULL);
  g_print("sealed %u frames, %" G_GUINT64_FORMAT " key changes; dropped without a key: %" G_GUINT64_FORMAT "\n",
          sender->frames, count(stats, "key-changes"), count(stats, "dropped-no-key"));
  gst_structure_free(stats);
  gst_element_set_state(sender->pipeline, GST_STATE_NULL);
  gst_bus_remove_watch(bus);
  gst_object_unref(pad);
  gst_object_unref(bus);
  g_io_channel_unref(input);
  return !sender->failed;
}

int main(int argc, char **argv) {
  Sender sender = {0};
  GError *error = NULL;
  GstElement *seal, *out;
  gboolean good = FALSE;

  gst_init(&argc, &argv);
  if (argc != 4) {
    g_printerr("usage: %s HOST PORT KEY_FILE\n", argv[0]);
    return 2;
  }
  sender.pipeline = gst_parse_launch("videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 "
                                     "! vp8enc deadline=1 keyframe-max-dist=30 ! sframeenc name=seal "
                                     "! rtpsframepay pt=96 ! udpsink name=out",
                                     &error);
  if (error != NULL) {
    g_printerr("%s\n", error->message);
    return 1;
  }
  sender.loop = g_main_loop_new(NULL, FALSE);
  sender.keys = gst_object_ref_sink(g_object_new(key_source_get_type(), NULL));
  seal = gst_bin_get_by_name(GST_BIN(sender.pipeline), "seal");
  out = gst_bin_get_by_name(GST_BIN(sender.pipeline), "out");
  g_object_set(out, "host", argv[1], "port", atoi(argv[2]), NULL);

  if (key_source_write(sender.keys, argv[3])) {
    g_print("Bring %s to the receivers, start them, and press Enter.\n", argv[3]);
    good = send_video(&sender, seal);
  }

  gst_object_unref(seal);
  gst_object_unref(out);
  gst_object_unref(sender.pipeline);
  gst_object_unref(sender.keys);
  g_main_loop_unref(sender.loop);
  return good ? 0 : 1;
}
