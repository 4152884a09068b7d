;;; emacs_popup.el --- Laws of the popup, where Eglot alone runs the server  -*- lexical-binding: t; -*-

;;; Commentary:

;; What corfu and company-capf do: they take a candidate of `completion-at-point-functions' and call its exit function.

;;; Code:

(require 'emacs_session)
(require 'eglot)

(setq eglot-sync-connect 30 eglot-events-buffer-size 0 completion-styles '(basic))
(add-to-list 'eglot-server-programs (cons 'python-mode (cons (car test-fake) (cdr test-fake))))

(defun popup-candidates ()
  "Return the capf's answer at point and its candidates, once there are any."
  (test-wait "a candidate"
             (lambda ()
               (let* ((capf (run-hook-with-args-until-success 'completion-at-point-functions))
                      (found (and capf (all-completions "" (nth 2 capf)))))
                 (and found (list capf found))))))

(ert-deftest the-popup-has-the-whole-suggestion-marked-with-its-joules ()
  (test-open "    for it|\n")
  (unwind-protect
      (progn
        (apply #'eglot (eglot--guess-contact))
        (test-wait "Eglot" #'eglot-managed-p)
        (pcase-let* ((`(,capf ,candidates) (popup-candidates))
                     (annotate (plist-get (nthcdr 3 capf) :annotation-function)))
          (should (equal 1 (length candidates)))
          (should (string-match-p "item in items:" (car candidates)))
          (should (string-match-p "greencode .* J modelled" (funcall annotate (car candidates))))
          (delete-region (nth 0 capf) (nth 1 capf))
          (insert (car candidates))
          (funcall (plist-get (nthcdr 3 capf) :exit-function) (car candidates) 'finished)
          (should (equal "    for item in items:\n" (buffer-string)))))
    (when (eglot-current-server) (ignore-errors (eglot-shutdown (eglot-current-server))))
    (set-buffer-modified-p nil)
    (kill-buffer)))

(provide 'emacs_popup)
;;; emacs_popup.el ends here
